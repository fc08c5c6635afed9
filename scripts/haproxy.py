"""HAProxy for scripts/bench-proxy: a reverse proxy with one thread, without or with SPOE."""

import os
import shutil
import subprocess
from string import Template

# Connections to the upstream are shared between clients, as the other proxies do.
PROXY = Template("""\
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
frontend clients
    bind $listen
    default_backend upstream
$asking
backend upstream
    server upstream $upstream
""")

# Fails closed, so that a request that the agent did not allow counts as failed.
ASKING = Template("""\
    filter spoe engine bench config $engine
    http-request deny deny_status 503 unless { var(txn.bench.action) -m str allow }
backend agents
    mode tcp
    timeout connect 1s
    timeout server 3m
    server agent unix@$socket
""")

# The event comes before all rules of the frontend. Tollgate's agents get the same of a request.
ENGINE = """\
[bench]
spoe-agent agent
    messages request
    option var-prefix bench
    option set-on-error error
    register-var-names action
    timeout hello 1s
    timeout idle 2m
    timeout processing 1s
    use-backend agents
spoe-message request
    args method=method path=pathq headers=req.hdrs_bin src=src
    event on-frontend-http-request
"""


def find():
    """Returns the path of the program, also if the user's path leads to no daemons."""
    found = shutil.which("haproxy", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
    if not found:
        raise SystemExit("haproxy is missing: run scripts/setup haproxy")
    return found


def version():
    """Returns the version of the program, such as `2.6.12-1+deb12u4`."""
    command = [find(), "-v"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[2]


def write_config(path, listen, upstream, socket=None):
    """Writes a configuration that asks the agent at `socket`, or no agent."""
    asking = ""
    if socket:
        engine = path.with_suffix(".spoe")
        engine.write_text(ENGINE)
        asking = ASKING.substitute(engine=engine, socket=socket)
    path.write_text(PROXY.substitute(listen=listen, upstream=upstream, asking=asking))
