"""Generates a codec: kafka_gen.py [--room ROOM --numbers NAME] OUT SCHEMA.msg…

Writes OUT/STEM.h and .cc for each schema, OUT/api_key.h, and for tests OUT/testing.cc and
OUT/fields.txt. For another room than wire/kafka, whose codec.h names the encoder and decoder, the
enumeration of the messages' numbers is called NAME and stands in OUT/name.h. A file whose text is
the same is left alone, so that nothing is rebuilt for it.
"""

import argparse
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


def main(target, out, paths):
    os.makedirs(out, exist_ok=True)
    files = {os.path.splitext(os.path.basename(path))[0]: schema.parse(path) for path in paths}
    messages = [message for stem in sorted(files) for message in files[stem]]
    for stem, own in files.items():
        write(os.path.join(out, stem + ".h"), emit_cpp.header(target, own))
        write(os.path.join(out, stem + ".cc"), emit_cpp.source(target, stem, own))
    write(os.path.join(out, target.stem + ".h"), emit_cpp.number_table(target, messages))
    write(os.path.join(out, "testing.cc"), emit_test.testing_source(target, files, messages))
    write(os.path.join(out, "fields.txt"), emit_test.field_tables(messages))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--room", default="wire/kafka")
    parser.add_argument("--numbers", default="ApiKey")
    parser.add_argument("out")
    parser.add_argument("schemas", nargs="+")
    args = parser.parse_args()
    try:
        main(emit_cpp.Target(args.room, args.numbers), args.out, args.schemas)
    except schema.SchemaError as error:
        sys.exit(f"kafka_gen: {error}")
