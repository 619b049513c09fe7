"""Generates the codec: kafka_gen.py OUT SCHEMA.msg…

Writes OUT/STEM.h and .cc for each schema, OUT/api_key.h, and for tests OUT/testing.cc and
OUT/fields.txt. A file whose text is the same is left alone, so that nothing is rebuilt for it.
"""

import os
import sys

import emit_cpp
import emit_test
import schema


def write(path, text):
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return
    except FileNotFoundError:
        pass
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main(out, paths):
    os.makedirs(out, exist_ok=True)
    files = {os.path.splitext(os.path.basename(path))[0]: schema.parse(path) for path in paths}
    messages = [message for stem in sorted(files) for message in files[stem]]
    for stem, own in files.items():
        write(os.path.join(out, stem + ".h"), emit_cpp.header(own))
        write(os.path.join(out, stem + ".cc"), emit_cpp.source(stem, own))
    write(os.path.join(out, "api_key.h"), emit_cpp.api_key(messages))
    write(os.path.join(out, "testing.cc"), emit_test.testing_source(files, messages))
    write(os.path.join(out, "fields.txt"), emit_test.field_tables(messages))


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2:])
    except schema.SchemaError as error:
        sys.exit(f"kafka_gen: {error}")
