"""A small scanner for C++: enough to measure functions, not to understand them."""

import re

RAW = re.compile(r'(?:u8|u|U|L)?R"([^()\\\s]{0,16})\(')
TYPE_HEAD = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b")


def blank(text):
    """The text with comments, literals and preprocessor lines blanked; line breaks stay."""
    out, i, n = [], 0, len(text)
    line_start = True
    while i < n:
        c = text[i]
        if text.startswith("//", i):
            end = text.find("\n", i)
            i = n if end < 0 else end
        elif text.startswith("/*", i):
            end = text.find("*/", i + 2)
            end = n if end < 0 else end + 2
            out.append("\n" * text.count("\n", i, end))
            i = end
        elif line_start and c == "#":
            while i < n and text[i] != "\n":
                if text[i] == "\\" and i + 1 < n and text[i + 1] == "\n":
                    out.append("\n")
                    i += 2
                    continue
                i += 1
        elif RAW.match(text, i) and (i == 0 or not (text[i - 1].isalnum() or text[i - 1] == "_")):
            match = RAW.match(text, i)
            end = text.find(")" + match.group(1) + '"', match.end())
            end = n if end < 0 else end + len(match.group(1)) + 2
            out.append('""' + "\n" * text.count("\n", i, end))
            i = end
        elif c == '"':
            i = skip_literal(text, i, '"')
            out.append('""')
        elif c == "'" and not (i > 0 and text[i - 1].isalnum() and i + 1 < n and text[i + 1].isalnum()):
            i = skip_literal(text, i, "'")
            out.append("0")
        else:
            out.append(c)
            i += 1
            if c == "\n":
                line_start = True
            elif not c.isspace():
                line_start = False
            continue
        line_start = False
    return "".join(out)


def skip_literal(text, start, quote):
    i = start + 1
    while i < len(text) and text[i] not in (quote, "\n"):
        i += 2 if text[i] == "\\" else 1
    return min(i + 1, len(text)) if i < len(text) and text[i] == quote else i


def kind_of(head):
    """scope, function or other: what the brace after this text opens."""
    head = re.sub(r"\[\[.*?\]\]", " ", head).strip()
    # A template's own parameter list says nothing about what follows it.
    while head.startswith("template"):
        depth = 0
        for i, c in enumerate(head):
            depth += (c == "<") - (c == ">")
            if c == ">" and depth == 0:
                head = head[i + 1:].strip()
                break
        else:
            return "other"
    if head.endswith(("=", ",", "(", "return")) or head.count("(") != head.count(")"):
        return "other"
    if re.search(r"\)\s*(?:noexcept\s*)?:[^:]", head) and not head.endswith((")", "}")):
        return "other"  # a member's initializer, y{x}
    if "(" in head and re.search(r"\)\s*(?:const|noexcept|override|final|mutable|&|&&|try|->[^{}]*|"
                                 r":[^:].*|requires.*|\s)*$", head, re.S):
        return "function"
    if TYPE_HEAD.search(head):
        return "scope"
    return "other"


def functions(text):
    """[(first line, lines)] of the functions of a file; what is inside them is not counted again."""
    clean = blank(text)
    found, stack = [], []
    head_start, line = 0, 1
    in_function = 0
    parens = 0
    for i, c in enumerate(clean):
        if c == "\n":
            line += 1
        elif c == "(":
            parens += 1
        elif c == ")":
            parens = max(0, parens - 1)
        elif c == "{":
            head = clean[head_start:i]
            kind = "other" if in_function or parens else kind_of(head)
            head = re.sub(r"^\s*(?:(?:public|private|protected)\s*:\s*)+", "", head)
            first = line - head.lstrip().count("\n")
            stack.append((kind, first, parens, head_start))
            in_function += kind == "function"
            parens = 0
            head_start = i + 1
        elif c == "}":
            if stack:
                kind, first, parens, before = stack.pop()
                if kind == "function":
                    in_function -= 1
                    found.append((first, line - first + 1))
                # After a member's initializer (`y{x}`) the head of the function goes on.
                head_start = before if kind == "other" else i + 1
            else:
                head_start = i + 1
        elif c == ";" and not parens:
            head_start = i + 1
    return found
