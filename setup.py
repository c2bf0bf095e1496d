"""With FASTGW_COMPILE=1, what each request passes is compiled to C by mypyc; everything else is in pyproject.toml.

Both ways it is the same code. Compiling takes a C compiler and two minutes, and a request costs a fifth less then.
"""

from __future__ import annotations

import os
import sys

from setuptools import Extension, setup

COMPILED = (
    "fastgw/counters.py",
    "fastgw/exchange.py",
    "fastgw/gateway.py",
    "fastgw/hedging.py",
    "fastgw/http1/chunked.py",
    "fastgw/http1/encode.py",
    "fastgw/http1/fields.py",
    "fastgw/http1/message.py",
    "fastgw/http1/parse.py",
    "fastgw/http1/parse_response.py",
    "fastgw/http1/target.py",
    "fastgw/identification.py",
    "fastgw/net/clock.py",
    "fastgw/net/downstream.py",
    "fastgw/net/ended.py",
    "fastgw/net/hsts.py",
    "fastgw/net/log_sink.py",
    "fastgw/net/pool.py",
    "fastgw/net/slots.py",
    "fastgw/net/upstream.py",
    "fastgw/policy/access_log.py",
    "fastgw/policy/balancer.py",
    "fastgw/policy/kind.py",
    "fastgw/policy/metrics.py",
    "fastgw/policy/router.py",
    "fastgw/policy/router_compile.py",
    "fastgw/policy/router_trie.py",
    "fastgw/ports.py",
    "fastgw/rows.py",
    "fastgw/tracing.py",
)

# Types alone decide what is made, and the build's environment may have none of what is imported: all that is from
# elsewhere is taken as it comes, and what the project asks of its own types is checked by the tests.
_OPTIONS = ("--config-file=", "--no-site-packages", "--ignore-missing-imports")
# The first one whose mypyc compiles this.
_MYPY = "mypy>=2.1"
# What is asked for before mypyc is there, to learn what the build takes.
_QUESTIONS = {"egg_info", "dist_info", "sdist"}


def _extensions() -> list[Extension]:
    try:
        from mypyc.build import mypycify  # noqa: PLC0415, it is there only to compile
    except ImportError:
        if _QUESTIONS.isdisjoint(sys.argv):
            sys.exit(f"FASTGW_COMPILE=1 takes mypyc: pip install '{_MYPY}'")
        return []
    return mypycify([*_OPTIONS, *COMPILED], group_name="fastgw")


if os.environ.get("FASTGW_COMPILE", "0") not in ("", "0"):
    setup(setup_requires=[_MYPY], ext_modules=_extensions())
else:
    setup()
