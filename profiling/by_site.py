"""Prints allocations per event by the innermost line of tollgate, from dhat's JSON."""

import json
import re
import sys

OURS = re.compile(r"0x[0-9a-f]+: (.*tollgate::.*) \((.*)\)$")


def main(path, events):
    with open(path) as file:
        profile = json.load(file)
    sites = {}
    for point in profile["pps"]:
        site = innermost([profile["ftbl"][frame] for frame in point["fs"]])
        count, size = sites.get(site, (0, 0))
        sites[site] = (count + point["tbk"], size + point["tb"])
    print(f"{'per event':>9}  {'bytes':>8}  line")
    for site, (count, size) in sorted(sites.items(), key=lambda item: -item[1][0]):
        print(f"{count / events:9.3f}  {size / events:8.1f}  {site}")
    total = sum(count for count, _ in sites.values())
    print(f"{total / events:9.3f}  total")


def innermost(frames):
    for frame in frames:
        match = OURS.search(frame)
        if match:
            return f"{match[2]}  {match[1]}"
    return "outside tollgate: " + (frames[0] if frames else "unknown")


main(sys.argv[1], int(sys.argv[2]))
