"""The very bytes that clients send: a workload's request heads and bodies, the same ones every time."""

import random

from benchmarks.workloads import Heads, Workload

HOST = "shop.example.com"
SEED = 20  # any number: the requests only have to be the same ones each time


def build_requests(workload: Workload) -> list[bytes]:
    """All distinct requests of a workload, spread evenly over its routes, in a fixed shuffled order."""
    rng = random.Random(SEED)
    count = workload.distinct_requests
    routes = [i * workload.routes // count if count < workload.routes else i % workload.routes for i in range(count)]
    rng.shuffle(routes)
    return [build_request(workload, route, rng) for route in routes]


def build_request(workload: Workload, route: int, rng: random.Random) -> bytes:
    lines = [f"{workload.method} /svc{route}/{workload.path} HTTP/1.1", f"Host: {HOST}"]
    if workload.heads is Heads.BROWSER:
        lines += browser_headers(rng)
    if workload.new_connection_each:
        lines.append("Connection: close")
    body = b""
    if workload.request_body_bytes:
        body = _json_text(workload.request_body_bytes, rng)
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def browser_headers(rng: random.Random) -> list[str]:
    """Twelve headers of a browser's fetch, with values that differ as those of different visitors do."""
    major = rng.randrange(100, 140)
    build = f"{major}.0.{rng.randrange(4000, 7000)}.{rng.randrange(250)}"
    quality = rng.randrange(5, 10)
    language = rng.choice(["en-GB", "de-DE", "fr-FR", "nl-NL", "pt-BR", "ja-JP", "es-ES"])
    return [
        f"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{build}",
        f"Accept: application/json, text/plain;q=0.{quality}, */*;q=0.{rng.randrange(1, 5)}",
        f"Accept-Language: {language},en;q=0.{quality},*;q=0.{rng.randrange(1, 5)}",
        f"Accept-Encoding: gzip, deflate, br;q=0.{quality}",
        f"Referer: https://{HOST}/category/{rng.randrange(10_000)}?page={rng.randrange(40)}",
        f"Cookie: session={rng.randbytes(16).hex()}; theme=dark; visits={rng.randrange(1000)}",
        f'Sec-Ch-Ua: "Chromium";v="{major}", "Not?A_Brand";v="{rng.randrange(8, 99)}"',
        f'Sec-Ch-Ua-Platform-Version: "{rng.randrange(5, 15)}.{rng.randrange(20)}.0"',
        f"Sec-Fetch-Mode: {rng.choice(['cors', 'same-origin', 'navigate'])}",
        f"Cache-Control: max-age={rng.randrange(600)}",
        f"Viewport-Width: {rng.randrange(360, 2560)}",
        f"Traceparent: 00-{rng.randbytes(16).hex()}-{rng.randbytes(8).hex()}-00",
    ]


def _json_text(size: int, rng: random.Random) -> bytes:
    start, end = b'{"note":"', b'"}'
    filling = rng.randbytes(size // 2 + 1).hex().encode("ascii")
    return start + filling[: size - len(start) - len(end)] + end
