"""The gate's certificate as files in its folder, where Traefik reads them, also when it starts without Consul."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from control_plane.authority import Authority
from control_plane.errors import Unavailable
from control_plane.files import write_whole
from control_plane.peers import Papers

KEPT = 6
"""Files of the last three renewals: what the routes in force still name must not go."""
DAY_S = 86_400
_PAPERS = TypeAdapter(Papers)


class PapersFolder:
    """``<gate>/tls``, 0700; all files 0600.

    Args:
        gate: The gate's folder.
    """

    def __init__(self, gate: Path) -> None:
        self._folder = (gate / "tls").absolute()
        self._memory = self._folder / "papers.json"

    def recall(self) -> Papers | None:
        """What was put here last, None if it is not whole."""
        try:
            found = _PAPERS.validate_json(self._memory.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return found if Path(found.leaf).exists() and Path(found.roots).exists() else None

    def put(self, authority: Authority) -> Papers:
        """Write what the CA says now.

        Raises:
            Unavailable: It has said nothing yet.
        """
        leaf = authority.leaf
        if leaf is None or not authority.known:
            raise Unavailable("Consul has not given this gate its certificate yet")
        self._folder.mkdir(mode=0o700, exist_ok=True)
        papers = Papers(
            leaf.authority,
            self._written("leaf", f"{leaf.chain.rstrip()}\n{leaf.key}"),
            self._written("roots", authority.roots),
            leaf.ends,
        )
        write_whole(self._memory, _PAPERS.dump_json(papers), mode=0o600)
        self._sweep({papers.leaf, papers.roots})
        return papers

    def _written(self, kind: str, text: str) -> str:
        path = self._folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.pem"
        if not path.exists():
            write_whole(path, text.encode(), mode=0o600)
        return str(path)

    def _sweep(self, kept: set[str]) -> None:
        found = sorted(self._folder.glob("*.pem"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in found[KEPT:]:
            if str(path) not in kept:
                path.unlink()


class Standing:
    """What a gate is to others: the CA's word as files, else those of the last run.

    Args:
        authority: The CA.
        gate: The gate's folder.
    """

    def __init__(self, authority: Authority, gate: Path) -> None:
        self.authority = authority
        self._folder = PapersFolder(gate)
        self._put: tuple[object, str] | None = None
        self._papers = self._folder.recall()

    def papers(self) -> Papers | None:
        """What is in force, written where it has changed; None while there is nothing."""
        said = (self.authority.leaf, self.authority.roots)
        if self.authority.known and said != self._put:
            self._papers = self._folder.put(self.authority)
            self._put = said
        return self._papers

    def problem(self, now: float) -> str | None:
        """Whether the certificate is nearer to its end than one that Consul renews ever comes."""
        papers = self._papers
        if papers is None:
            return "this gate has no certificate yet; see tekup logs agent, and whether Consul answers"
        left_s = papers.ends - now
        if left_s > DAY_S / 4:
            return None
        hours = max(left_s, 0) / 3600
        return f"the gate's certificate ends in {hours:.1f} hours and Consul has not renewed it; see tekup logs consul"
