"""Writes what tests need: random messages, a list of all of them, and their field tables."""

from emit_cpp import CALL, condition, guarded, qualified

RANDOM = {"bool": "r.boolean()", "int8": "r.integer<std::int8_t>()",
          "int16": "r.integer<std::int16_t>()", "int32": "r.integer<std::int32_t>()",
          "int64": "r.integer<std::int64_t>()", "uuid": "r.uuid()", "string": "r.string()",
          "bytes": "r.bytes()"}


def fill_one(field, value, null_ok):
    if field.is_struct:
        return f"fill(r, v, {value});"
    if field.base == "records":
        return f"{value} = r.records({null_ok or 'false'});"
    return f"{value} = {RANDOM[field.base]};"


def fill_field(message, field):
    value = f"m.{field.name}"
    null_ok = condition(field.nullable, message) if field.optional else None
    if field.array:
        target = f"{value}.emplace()" if field.optional else value
        lines = [f"auto& list = {target};", "list.resize(r.count());",
                 f"for (auto& x : list) {fill_one(field, 'x', None)}"]
    else:
        lines = [fill_one(field, value, null_ok)]
    if null_ok is not None and field.base != "records":
        reset = f"{value}.reset();"
        lines = [f"if (({null_ok}) && r.null()) {{", f"  {reset}", "} else {",
                 *["  " + line for line in lines], "}"]
    return ["{", *["  " + line for line in lines], "}"]


def filler(message, struct):
    lines = [f"[[maybe_unused]] void fill([[maybe_unused]] Random& r, [[maybe_unused]] int v, "
             f"[[maybe_unused]] {qualified(message, struct)}& m) {{"]
    for field in struct.fields:
        lines += guarded(condition(field.versions, message), fill_field(message, field), 2)
    return "\n".join([*lines, "}\n"])


def testing_source(target, stems, messages):
    lines = [target.note, f'#include "{target.room}/testing.h"\n\n']
    lines += [f'#include "{target.room}/gen/{stem}.h"\n' for stem in sorted(stems)]
    lines += ["\n", f"namespace {target.space}::testing {{\n", "namespace {\n\n"]
    for message in messages:
        for struct in [*message.struct.inner(), message.struct]:
            lines.append(filler(message, struct) + "\n")
    lines += ["template <typename T>\nResult<Bytes> make(Random& r, std::int16_t version) {\n",
              "  T message;\n  fill(r, version, message);\n",
              "  return check_round_trip(message, version);\n}\n\n",
              "template <typename T>\nResult<Bytes> again(ByteView body, std::int16_t version, ",
              "DecodeLimits limits) {\n  return recode<T>(body, version, limits);\n}\n\n",
              "}  // namespace\n\nstd::span<const AnyMessage> all_messages() {\n",
              "  static constexpr AnyMessage kAll[] = {\n"]
    for m in messages:
        key = "-1" if m.key is None else str(m.key)
        is_request = str(m.key is not None and m.kind != "response").lower()
        lines.append(f"      {{{m.name}::kInfo, {key}, {is_request}, "
                     f"&make<{m.name}>, &again<{m.name}>}},\n")
    return "".join([*lines, "  };\n  return kAll;\n}\n",
                    f"\n}}  // namespace {target.space}::testing\n"])


def type_text(field, version, flexible, message):
    compact = field.compact(flexible) and (field.array or field.base not in CALL)
    null = "?" if field.optional and version in field.nullable else ""
    if field.is_struct:
        inner = table(field.struct, version, flexible, message)
    else:
        inner = field.base
    if not field.array:
        if field.is_struct:
            return inner
        return ("c" if compact else "") + inner + null
    if not field.is_struct and flexible and field.base not in CALL:
        inner = "c" + inner
    return ("c" if compact else "") + null + "[" + inner + "]"


def table(struct, version, flexible, message):
    parts = [f"{f.name}:{type_text(f, version, flexible, message)}"
             for f in struct.present(version)]
    if flexible:
        tags = [f"{f.tag}={f.name}:{type_text(f, version, flexible, message)}"
                for f in struct.tagged() if version in f.versions]
        parts.append("tags(" + " ".join(tags) + ")")
    return "{" + " ".join(parts) + "}"


FIRST_NATIVE_KEY = 10_000


def field_tables(messages):
    """One line for each message and version: NAME VERSION TABLE. Kafka's only: others have no such
    message to compare ours with."""
    lines = []
    for m in messages:
        if m.key is not None and m.key >= FIRST_NATIVE_KEY:
            continue
        for version in m.each_version():
            flexible = m.is_flexible(version)
            lines.append(f"{m.name} {version} {table(m.struct, version, flexible, m)}\n")
    return "".join(lines)
