"""Load from wrk, and the processor time of what answers, for the scripts that measure proxies."""

import json
import os
import subprocess
import time
from pathlib import Path

# Requests with ten headers. The report is one line of JSON.
SCRIPT = """
local body_bytes = tonumber(os.getenv("BODY_BYTES"))
wrk.path = os.getenv("REQUEST_PATH")
wrk.headers = {
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9," ..
    "image/avif,image/webp,*/*;q=0.8",
  ["Accept-Encoding"] = "gzip, deflate, br", ["Accept-Language"] = "en-GB,en;q=0.7,de;q=0.3",
  ["Cache-Control"] = "no-cache", ["Cookie"] = "session=" .. string.rep("0123456789abcdef", 12),
  ["Referer"] = "https://shop.example.com/articles/2024/index.html?page=3",
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
  ["X-Forwarded-For"] = "198.51.100.7, 203.0.113.9",
  ["X-Request-Id"] = "4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
}
for name in os.getenv("WITHOUT"):gmatch("%S+") do
  wrk.headers[name] = nil
end
if body_bytes > 0 then
  wrk.method = "POST"
  wrk.body = string.rep("x", body_bytes)
end
done = function(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local parts = {}
  for _, percentile in ipairs({50, 75, 90, 99, 99.9, 99.99}) do
    parts[#parts + 1] = string.format("[%g, %d]", percentile, latency:percentile(percentile))
  end
  local report = 'REPORT {"requests": %d, "micros": %d, "errors": %d, "max_us": %d, ' ..
    '"percentiles_us": [%s]}\\n'
  io.write(string.format(report,
    summary.requests, summary.duration, failed, latency.max, table.concat(parts, ", ")))
end
"""


def load(
    folder, address, connections, seconds, body_bytes=0, path="/sink?id=42", without=(),
):
    """Sends requests to a proxy and returns the report; `folder` is for the script.

    The headers that `without` names are left out.
    """
    script = folder / "wrk.lua"
    script.write_text(SCRIPT)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, address]
    environment = {
        **os.environ,
        "BODY_BYTES": str(body_bytes),
        "REQUEST_PATH": path,
        "WITHOUT": " ".join(without),
    }
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment,
        timeout=60 + seconds,
    )
    report = next(line for line in done.stdout.splitlines() if line.startswith("REPORT "))
    return json.loads(report.removeprefix("REPORT "))


def processor_time(process):
    """Returns the processor time of all threads of a process so far, in nanoseconds."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks)


def wait_for(condition, what):
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not ready after 30 s")
        time.sleep(0.02)
