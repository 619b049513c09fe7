"""What the reference pages say of metrics, events and errors is what the code has, and the other way
round. The code is read as text: names, levels, fields and help are written where they are used."""

import re

STRING = r'"((?:[^"\\]|\\.)*)"'
ROW = re.compile(r"^\| (.*) \|$", re.M)


def sources(root, rooms=("",)):
    """Everything that goes into the server, {path: text}."""
    found = {}
    for room in rooms:
        for path in sorted((root / "src" / room).rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.suffix not in (".cc", ".h") or path.stem.endswith(("_test", "testing")):
                continue
            if not path.name.startswith(("fake_", "fuzz_")):
                found[name] = path.read_text(encoding="utf-8")
    return found


def table(text):
    """The rows of a page's tables whose first cell is a `name`, as lists of cells."""
    rows = []
    for row in ROW.findall(text):
        cells = [cell.strip() for cell in row.split("|")]
        if re.fullmatch(r"`[^`]+`", cells[0]):
            rows.append([cells[0].strip("`"), *cells[1:]])
    return rows


def differences(page, shown, had):
    """Complaints about {name: what is said of it}, shown by the page and had by the code."""
    found = [f"{page}: {name} is shown, and the code has no such thing" for name in sorted(set(shown) - set(had))]
    found += [f"{page}: {name} is missing; the code says: {had[name]}" for name in sorted(set(had) - set(shown))]
    found += [f"{page}: {name}: shown is {shown[name]}, the code says {had[name]}"
              for name in sorted(set(shown) & set(had)) if shown[name] != had[name]]
    return found


# --- metrics

METRIC = re.compile(r'"((?:pyralog|process)_[a-z0-9_]+)",\s*((?:"(?:[^"\\]|\\.)*"\s*)+)')


def metrics_in(texts):
    """{name: (type, help)}: a name in quotes, and its help after it."""
    found = {}
    for text in texts.values():
        for match in METRIC.finditer(text):
            before = text[max(0, match.start() - 60):match.start()]
            kind = "counter" if match.group(1).endswith("_total") else "gauge"
            if re.search(r"histogram\(\s*$", before):
                kind = "histogram"
            found[match.group(1)] = (kind, "".join(re.findall(STRING, match.group(2))))
    return found


def check_metrics(root):
    page = "docs/metrics.md"
    rows = table((root / page).read_text(encoding="utf-8"))
    return differences(page, {row[0]: (row[1], row[3]) for row in rows}, metrics_in(sources(root)))


def check_alerts(root):
    """The alarms are of metrics that there are. Which of them deserve one is for people to say."""
    rules = "docs/prometheus-alerts.yml"
    known = {row[0] for row in table((root / "docs/metrics.md").read_text(encoding="utf-8"))}
    used = set(re.findall(r"\b((?:pyralog|process)_[a-z_]+?)(?:_bucket)?\b",
                          re.sub(r"#.*", "", (root / rules).read_text(encoding="utf-8"))))
    return [f"{rules}: {name} is no metric" for name in sorted(used - known)]


# --- events

CALL = re.compile(r"\blog(_debug|_info|_warn|_error)?\(")
EVENT = re.compile(r'"([a-z]+\.[a-z_]+)"')
FIELD = re.compile(r'\{\s*"([a-z_0-9]+)"\s*,')
SLOW = {"kRequest": "slow.request", "kSync": "slow.sync", "kWrite": "slow.write"}
SLOW_FIELDS = {"ms", "limit_ms", "left_out"}


def arguments(text, at):
    """The text from `at` to the bracket that closes the one before it."""
    depth, quoted = 1, False
    for end in range(at, len(text)):
        char = text[end]
        if quoted:
            quoted = char != '"' or text[end - 1] == "\\"
        elif char == '"':
            quoted = True
        elif char in "()":
            depth += 1 if char == "(" else -1
            if depth == 0:
                return text[at:end]
    return text[at:]


def events_in(texts):
    """{event: (levels, fields)}. What is logged by a variable's name is found where that is set, and
    fields that are put together elsewhere in the file (of slow operations) by their braces there."""
    found = {}

    def add(event, levels, fields):
        before = found.get(event, (set(), set()))
        found[event] = (before[0] | set(levels), before[1] | set(fields))

    for name, text in texts.items():
        text = re.sub(r"//[^\n]*", "", text)
        for call in CALL.finditer(text):
            said = arguments(text, call.end())
            levels = [call.group(1)[1:]] if call.group(1) else re.findall(r"Level::k(\w+)", said)
            fields = FIELD.findall(said)
            event = EVENT.search(said)
            if event:
                add(event.group(1), [level.lower() for level in levels], fields)
            elif re.match(r"\s*event,", said):
                chosen = re.search(r"\bevent = [^;]*;", text)
                for each in EVENT.findall(chosen.group(0) if chosen else ""):
                    add(each, levels, fields)
        for kind in re.findall(r"SlowKind::(k\w+), (?!shard)", text):
            if kind in SLOW and not name.startswith("src/observe/"):
                at = text.index("SlowKind::" + kind)
                near = text[max(0, at - 700):at] if kind == "kRequest" else text[at:at + 400]
                add(SLOW[kind], [], FIELD.findall(near))
        if name == "src/log/partition_log.cc":  # note_slow, which is told the kind
            add("slow.sync", [], ["what", "partition"])
            add("slow.write", [], ["what", "partition"])
    for event in SLOW.values():
        if event in found:
            add(event, [], SLOW_FIELDS)
    return found


def words(cell):
    return {word.strip(" `") for word in cell.split(",") if word.strip(" `")}


def check_events(root):
    page = "docs/events.md"
    rows = table((root / page).read_text(encoding="utf-8"))
    shown = {row[0]: (sorted(words(row[1])), sorted(words(row[2]))) for row in rows}
    had = {event: (sorted(levels), sorted(fields))
           for event, (levels, fields) in events_in(sources(root)).items()}
    return differences(page, shown, had)


# --- errors

ROOMS = ("broker", "group", "catalog", "producer", "protocol", "replica")
# Known, so that what other brokers answer has a name; nothing here answers with them.
UNUSED = {"InvalidFetchSize", "RecordListTooLarge", "NotEnoughReplicasAfterAppend"}


def upper(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()


def errors_in(texts, enumeration):
    """{NAME: number} of the errors that requests are answered with."""
    numbers = dict(re.findall(r"^  k(\w+) = (-?\d+),", enumeration, re.M))
    used = set()
    for name, text in texts.items():
        if not name.endswith("error_names.cc"):
            used |= set(re.findall(r"KafkaError::k(\w+)", text))
    return {upper(name): numbers[name] for name in used - UNUSED - {"None"} if name in numbers}


def check_errors(root):
    page = "docs/errors.md"
    rows = table((root / page).read_text(encoding="utf-8"))
    enumeration = (root / "src/model/kafka_error.h").read_text(encoding="utf-8")
    found = differences(page, {row[0]: row[1] for row in rows},
                        errors_in(sources(root, ROOMS), enumeration))
    names = (root / "src/protocol/kafka/error_names.cc").read_text(encoding="utf-8")
    told = dict(re.findall(r'case KafkaError::k(\w+): return "(\w+)";', names))
    found += [f"error_names.cc calls k{name} {told[name]}" for name in told if told[name] != upper(name)]
    return found


def check_error_lists(root):
    """count_errors (service.h) goes into every list of a response that has an error_code in it."""
    walked = set(re.findall(r"each\(message\.(\w+)\);",
                            (root / "src/protocol/kafka/service.h").read_text(encoding="utf-8")))
    missing = set()
    for path in sorted(root.glob("src/wire/kafka/schema/*.msg")):
        way, response = [], False
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.match(r"\S", line):
                way, response = [], line.startswith("response")
            elif response and line.strip():
                depth = (len(line) - len(line.lstrip())) // 2
                way = way[:depth - 1] + [line.split()[0]]
                if way[-1] == "error_code":
                    missing |= {(path.name, each) for each in way[:-1] if each not in walked}
    return [f"src/protocol/kafka/service.h: count_errors does not look into {each} of {name}"
            for name, each in sorted(missing)]


def check(root):
    return check_metrics(root) + check_alerts(root) + check_events(root) + check_errors(root) + check_error_lists(root)


def self_test():
    """What planted differences are not found."""
    problems = []
    metric = {"a.cc": 'registry.counter("pyralog_a_b_total",\n   "One "\n  "two");\n'
                      'histogram(\n  "pyralog_a_seconds", "T", x)'}
    if metrics_in(metric) != {"pyralog_a_b_total": ("counter", "One two"),
                              "pyralog_a_seconds": ("histogram", "T")}:
        problems.append(f"self-test: metrics are not read: {metrics_in(metric)}")
    event = {"a.cc": 'observe::log_warn("a.b", {{"x", f("(")}, {"y", 1}}); log(Level::kInfo, "a.c");\n'
                     'const char* event = z ? "a.d" : "a.e"; log_error(\n  event, {{"q", 1}});'}
    if events_in(event) != {"a.b": ({"warn"}, {"x", "y"}), "a.c": ({"info"}, set()),
                            "a.d": ({"error"}, {"q"}), "a.e": ({"error"}, {"q"})}:
        problems.append(f"self-test: events are not read: {events_in(event)}")
    if errors_in({"a.cc": "KafkaError::kNone KafkaError::kUnknownTopicId"},
                 "  kNone = 0,\n  kUnknownTopicId = 100,\n") != {"UNKNOWN_TOPIC_ID": "100"}:
        problems.append("self-test: errors are not read")
    if len(differences("p", {"a": 1, "b": 2}, {"b": 3, "c": 4})) != 3:
        problems.append("self-test: differences are not found")
    if table("| a | b |\n|---|---|\n| `x` | | z |\n") != [["x", "", "z"]]:
        problems.append("self-test: tables are not read")
    return problems
