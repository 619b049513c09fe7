#!/usr/bin/env python3
"""Every command, found by walking the tree that the binary itself tells: its help teaches, and what goes
wrong is said in one line that names the thing, with an exit code other than 0."""

import shlex
import time

import command
from command import CommandTest, brokers, pyralog

TABLE = pyralog("--json").document()
NOWHERE = "127.0.0.1:1"  # nobody listens on a port that needs root and has no service


def words_of(each):
    return each["command"].split()


def first_example(each):
    """The words of the first example behind the command itself; what stands before a pipe is another's."""
    said = next(example for example in each["examples"] if each["command"] in example)
    part = next(part for part in said.split("|") if f"pyralog {each['command']}" in part)
    words = shlex.split(part.strip().removeprefix("source <(").removesuffix(")"))
    return words[1 + len(words_of(each)):]


def takes(each, option):
    return option in {o["name"] for o in each["options"]}


class Tree(CommandTest):
    def test_help_of_every_group_leads_to_every_command(self):
        shown = self.good("--help").out
        for each in TABLE:
            with self.subTest(command=each["command"]):
                words = words_of(each)
                self.assertIn(words[0], shown)
                if len(words) == 2:
                    for asked in ((words[0],), (words[0], "--help"), ("help", words[0])):
                        self.assertRegex(self.good(*asked).out, rf"(?m)^  {words[1]}\s+[A-Z]")
                self.assertEqual(self.good("help", *words).out, self.good(*words, "--help").out)

    def test_help_teaches(self):
        for each in TABLE:
            with self.subTest(command=each["command"]):
                out = self.good(*words_of(each), "--help").out
                self.assertTrue(out.startswith(f"Usage: {each['usage']}\n"), out)
                self.assertIn(f"\n\n{each['summary']}\n", out)
                self.assertRegex(each["summary"], r"^[A-Z].*\.$")
                for part in each["arguments"] + each["options"]:
                    self.assertRegex(part["help"], r"^\w.* .*[.)]$", part["name"])
                    self.assertIn(part["name"], out)
                self.assertIn("--json", out)
                self.assertTrue(each["examples"], "it shows no example")
                for example in each["examples"]:
                    self.assertIn(f"\n  {example}\n", out)

    def test_examples_are_of_the_command_and_can_be_parsed(self):
        for each in TABLE:
            with self.subTest(command=each["command"]):
                for example in each["examples"]:
                    self.assertIn(f"pyralog {each['command']}", example)
                    for word in shlex.split(example.split(f"pyralog {each['command']}")[1].split("|")[0].rstrip(")")):
                        if word.startswith("--"):
                            self.assertTrue(word == "--json" or takes(each, word), word)

    def test_wrong_words_are_named_and_help_is_pointed_at(self):
        for each in TABLE:
            with self.subTest(command=each["command"]):
                words = words_of(each)
                self.refused(*words, "--no-such-option", code=2,
                             says=[each["command"], "--no-such-option", f"pyralog {each['command']} --help"])
                required = ([a["name"] for a in each["arguments"] if a["required"]]
                            + [o["name"] for o in each["options"] if o["required"]])
                if required:
                    self.refused(*words, code=2, says=[each["command"], "is required"])
                for option in each["options"]:
                    if option["value"]:
                        self.refused(*words, option["name"], code=2, says=[each["command"], option["name"]])

    def test_who_finds_no_server_says_where_it_looked_and_fails_in_time(self):
        for each in TABLE:
            with self.subTest(command=each["command"]):
                if not takes(each, "--bootstrap"):
                    continue
                began = time.monotonic()
                ran = self.refused(*words_of(each), *first_example(each), "--bootstrap", NOWHERE, "--timeout",
                                   "300ms", given=b"x:1\n", says=[NOWHERE, "is the server running?"])
                self.assertLess(time.monotonic() - began, 20, ran)
                self.assertEqual(ran.out, "", "nothing is answered that is not so")

    def test_what_is_not_there_is_named(self):
        bootstrap = self.server().bootstrap
        absent = self.folder / "absent"
        for each in TABLE:
            with self.subTest(command=each["command"]):
                words, names = words_of(each), [a["name"] for a in each["arguments"]]
                if takes(each, "--bootstrap") and set(names) & {"NAME", "TOPIC", "GROUP"}:
                    if each["command"] in ("topic create", "produce", "bench produce", "bench latency", "group reset"):
                        continue  # these make what is not there; cli_commands.py has what they refuse
                    example = first_example(each)
                    wanted = "no-such-thing"
                    ran = self.refused(*words, wanted, *example[1:], "--bootstrap", bootstrap, "--timeout", "30s",
                                       given=b"x:1\n", says=[wanted])
                    self.assertRegex(ran.err.strip().splitlines()[-1], r"; .+", "an error says what to do")
                elif names == ["DIR"]:
                    self.refused(*words, absent, says=[str(absent), "; "])
        self.refused("config", "check", "--config", absent, code=2, says=[str(absent), "; "])

    def test_completion_and_manual_come_from_the_same_table(self):
        page = self.good("man").out.replace("\\-", "-")
        scripts = {shell: self.good("completion", shell).out for shell in ("bash", "zsh", "fish")}
        for each in TABLE:
            with self.subTest(command=each["command"]):
                self.assertIn(each["command"], page)
                for option in each["options"]:
                    self.assertIn(option["name"], page)
                    for shell, script in scripts.items():
                        name = option["name"].removeprefix("--") if shell == "fish" else option["name"]
                        self.assertIn(name, script, shell)


if __name__ == "__main__":
    command.main()
