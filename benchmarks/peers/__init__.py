"""The gateways that are compared, one module each."""

from benchmarks.peers.fastgw import Fastgw
from benchmarks.peers.haproxy import Haproxy
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.peer import Peer, Setup

__all__ = ["Peer", "Setup", "all_peers"]


def all_peers() -> dict[str, Peer]:
    """Every peer by name, in the order of the report."""
    variants = ("guarded", "retries", "hedging", "unobserved", "observed", "traced", "recording")
    compiled = ("compiled", "compiled-unobserved", "compiled-observed")
    ours = (Fastgw(), *(Fastgw(f"fastgw-{variant}") for variant in (*variants, *compiled)))
    peers: tuple[Peer, ...] = (*ours, Nginx(), Nginx("nginx-reuseport"), Nginx("nginx-unobserved"), Haproxy())
    return {peer.name: peer for peer in peers}
