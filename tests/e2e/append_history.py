#!/usr/bin/env python3
"""Judges a history of one partition as a list that is appended to: is it linearizable?

An append puts one value at the end and answers with its offset; a read answers with the whole list. Values
are unique. Since the last read, when all is quiet, shows in which order the appends took effect, the search
for an order that the general problem needs falls away: each operation has its place (an append its offset, a
read the length that it saw), and there is a linearization exactly if no operation ended before another that
has an earlier place began. `judge` says what is wrong, or nothing.

Run by itself, it judges histories that it must refuse, and some that it must not.
"""

import random
import sys

OK, FAILED, UNKNOWN = "ok", "failed", "unknown"  # done; done by nobody, for sure; maybe done
FOREVER = float("inf")


class Append:
    """`offset` if it is OK. One without an answer may take effect at any time after it began."""

    __slots__ = ("value", "began", "ended", "outcome", "offset", "by")

    def __init__(self, value, began, ended=FOREVER, outcome=UNKNOWN, offset=None, by=""):
        self.value, self.began, self.ended = value, began, ended
        self.outcome, self.offset, self.by = outcome, offset, by

    def __repr__(self):
        return (f"append {self.value} by {self.by} [{self.began:.4f}, {self.ended:.4f}] {self.outcome}"
                f"{'' if self.offset is None else f' at {self.offset}'}")


class Read:
    """What was there, all of it; of what lies before `start` only that it was there is known."""

    __slots__ = ("values", "began", "ended", "by", "start")

    def __init__(self, values, began, ended, by="", start=0):
        self.values, self.began, self.ended, self.by, self.start = values, began, ended, by, start

    def size(self):
        return self.start + len(self.values)

    def __repr__(self):
        return f"read of {self.size()} by {self.by} [{self.began:.4f}, {self.ended:.4f}]"


def placed(appends, final):
    """(what is wrong, [append at offset 0, at 1, …])"""
    wrong, at = [], {}
    for offset, value in enumerate(final):
        if value in at:
            wrong.append(f"{value} is at {at[value]} and at {offset}")
        at[value] = offset
    known = {}
    for each in appends:
        if each.value in known:
            wrong.append(f"{each.value} was appended twice: the history itself is wrong")
        known[each.value] = each
        if each.outcome == OK and at.get(each.value) != each.offset:
            wrong.append(f"lost or moved: {each}, is at {at.get(each.value)}; the list has {len(final)}")
        if each.outcome == FAILED and each.value in at:
            wrong.append(f"refused, and there all the same: {each}, at {at[each.value]}")
    wrong += [f"{value} at {offset} was appended by nobody" for value, offset in at.items() if value not in known]
    return wrong, [] if wrong else [known[value] for value in final]


def judge(appends, reads, final, late=()):
    """What is wrong with the history, in words; empty if it is linearizable. `final` is the list as it was
    read after everything else. Reads in `late` may lack what was there already, and nothing else: they show a
    beginning of the list, and nothing that began after them."""
    wrong, order = placed(appends, final)
    places = [(2 * offset + 1, each) for offset, each in enumerate(order)]
    for read in [*reads, *late]:
        there = final[read.start:read.size()]
        if list(read.values) != list(there):
            cut = read.start + next((i for i, (a, b) in enumerate(zip(read.values, there)) if a != b), len(there))
            wrong.append(f"not the beginning of the list, from {cut} on: {read}")
    if wrong:
        return wrong
    places += [(2 * read.size(), read) for read in reads]
    for read in late:
        wrong += [f"the future: {read} shows {each}" for each in order[:read.size()] if each.began > read.ended]
    places.sort(key=lambda placed: placed[0])
    # Reads of one length stand anywhere among themselves, so they are judged against what lies before.
    latest, pending, at = None, None, None
    for place, each in places:
        if place != at:
            if pending is not None and (latest is None or pending.began > latest.began):
                latest = pending
            pending, at = None, place
        if latest is not None and each.ended < latest.began:
            wrong.append(f"out of order: {each} ended before {latest} began, which comes before it")
        if pending is None or each.began > pending.began:
            pending = each
    return wrong


def sound_history(rng, operations=200):
    """A linearizable one: each operation takes effect at some moment between its beginning and its end."""
    appends, reads, final, moment = [], [], [], 0.0
    for number in range(operations):
        moment += rng.random()
        began, ended = moment - 3 * rng.random(), moment + 3 * rng.random()
        if rng.random() < 0.3:
            reads.append(Read(list(final), began, ended, "r"))
            continue
        kind = rng.random()
        if kind < 0.1:
            appends.append(Append(number, began, ended, FAILED))
            continue
        if kind < 0.15:
            appends.append(Append(number, began))  # no answer, and it never came through
            continue
        final.append(number)
        unknown = kind < 0.25
        appends.append(Append(number, began, FOREVER if unknown else ended, UNKNOWN if unknown else OK,
                              None if unknown else len(final) - 1))
    return appends, reads, final


def planted(rng, appends, reads, final):
    """{defect: the history with it}: what `judge` must refuse."""
    done = [a for a in appends if a.outcome == OK]
    victim = rng.choice(done[5:-20])
    at = victim.offset
    later = rng.choice([a for a in done if a.offset > at + 12])
    swapped = list(final)
    swapped[at], swapped[later.offset] = later.value, victim.value

    def changed(**more):
        fields = {"value": victim.value, "began": victim.began, "ended": victim.ended, "outcome": OK, "offset": at}
        return [a for a in appends if a is not victim] + [Append(**{**fields, **more})]

    def without(values):
        return [v for v in values if v != victim.value]
    refused = next(a for a in appends if a.outcome == FAILED)
    end = max(a.ended for a in done)
    return {
        "an acknowledged append is lost": (appends, [], final[:at] + final[at + 1:]),
        "the last one is lost": (appends, [], without(final) if final[-1] == victim.value else final[:done[-1].offset]),
        "two change places": (appends, [], swapped),
        "one is there twice": (appends, [], final + [victim.value]),
        "a refused one is there": (appends, [], final + [refused.value]),
        "one is there that nobody appended": (appends, [], final + ["stranger"]),
        "an answer has another offset": (changed(offset=at + 1), [], final),
        "it took effect after its answer": (changed(began=victim.began - 1000, ended=victim.began - 999), [], final),
        "it took effect before it began": (changed(began=end + 1, ended=end + 2), [], final),
        "a read lacks what was acknowledged before": (appends, reads + [Read(final[:at], end + 1, end + 2)], final),
        "a read has a hole": (appends, reads + [Read(without(final), end + 1, end + 2)], final),
        "a read has what never stood": (appends, reads + [Read(final + ["gone"], end + 1, end + 2)], final),
        "a read sees the future": (appends, reads + [Read(final, -20.0, -19.0)], final),
        "reads go back": (appends, [Read(final, end + 1, end + 2), Read(final[:at], end + 3, end + 4)], final),
    }


# What is wrong with a read even if it may be late.
NEVER = {"a read has a hole", "a read has what never stood", "a read sees the future"}


def shuffled_times(rng, history):
    """The same with other times: some of these are sound, most are not."""
    appends, reads, final = history

    def moved(each):
        began = each.began + rng.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, rng.uniform(-12, 12)))
        return began, max(began, each.ended)
    return ([Append(a.value, *moved(a), a.outcome, a.offset, a.by) for a in appends],
            [Read(r.values, *moved(r), r.by, r.start) for r in reads], final)


def compare_with_porcupine(seeds):
    """Both judges say the same of orders; returns of how many, and how many of these were sound."""
    import porcupine_judge
    program = porcupine_judge.program()
    if program is None:
        return 0, 0
    own, theirs = [], []
    for seed in seeds:
        rng = random.Random(seed)
        for history in (sound_history(rng, 60), shuffled_times(rng, sound_history(rng, 60))):
            own.append(not judge(*history))
            theirs.append([operation for _, operation in porcupine_judge.operations(*history)])
    said = [each == "ok" for each in porcupine_judge.verdicts(program, theirs)]
    if said != own:
        first = [a == b for a, b in zip(said, own)].index(False)
        sys.exit(f"FAILED: of {len(own)} histories, number {first} is judged otherwise by Porcupine")
    return len(own), sum(own)


def main():
    histories = defects = 0
    for seed in range(200):
        rng = random.Random(seed)
        history = sound_history(rng)
        if wrong := judge(*history):
            sys.exit(f"FAILED: seed {seed}: a sound history was refused: {wrong[0]}")
        histories += 1
        for name, bad in planted(rng, *history).items():
            if not judge(*bad):
                sys.exit(f"FAILED: seed {seed}: not caught: {name}")
            if name in NEVER and not judge(bad[0], [], bad[2], late=bad[1]):
                sys.exit(f"FAILED: seed {seed}: not caught of one that may be late: {name}")
            defects += 1
    print(f"{histories} sound histories pass, {defects} with a defect are refused")
    compared, sound = compare_with_porcupine(range(300))
    print(f"Porcupine agrees on {compared}, {sound} of them sound")
    print(f"soak: append_history count={histories + defects}")


if __name__ == "__main__":
    main()
