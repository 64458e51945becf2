"""Arguments that several tools have."""

from typing import Annotated

from pydantic import Field

__all__ = ["After", "Encoding", "ExpectedHash", "PathArgument", "Skip"]

PathArgument = Annotated[str, Field(description="Absolute, or relative where there is one root.")]
Encoding = Annotated[
    str | None, Field(description="Only if it is neither UTF-8 nor marked by a BOM; such as latin-1, cp1252, gbk.")
]
ExpectedHash = Annotated[
    str | None, Field(pattern="^[0-9a-fA-F]{64}$", description="Refuse unless the file has this SHA-256.")
]
Skip = Annotated[tuple[str, ...], Field(max_length=100, description="Names of folders not to look into.")]
After = Annotated[str, Field(max_length=8192, description="next_after of the page before.")]
