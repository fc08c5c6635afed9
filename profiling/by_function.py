"""Prints instructions per request by function, from the output of callgrind_annotate."""

import re
import sys

ROWS = 30
LINE = re.compile(r"^\s*([\d,]+) \(\s*[\d.]+%\)\s+(.*)$")


def main(side, requests):
    total, functions = read(sys.stdin)
    print(f"\n{side}: {total / requests:,.0f} instructions per request, including startup\n")
    print(f"{'instructions':>12}  share  function")
    for count, name in functions[:ROWS]:
        print(f"{count / requests:12,.0f}  {count / total:5.1%}  {name}")


def read(lines):
    total, counts = 0, {}
    for line in lines:
        match = LINE.match(line)
        if not match:
            continue
        count, what = int(match[1].replace(",", "")), match[2]
        if what.startswith("PROGRAM TOTALS"):
            total = count
        elif ":" in what:
            name = re.sub(r"\s*\[[^\]]*\]$", "", what.split(":", 1)[1])
            name = re.sub(r"::h[0-9a-f]{16}", "", name)
            counts[name] = counts.get(name, 0) + count
    functions = sorted(((count, name) for name, count in counts.items()), reverse=True)
    return total, functions


main(sys.argv[1], int(sys.argv[2]))
