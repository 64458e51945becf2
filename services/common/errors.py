"""Errors of the kit.

```
KitError
├── SettingsError      the process cannot start; every problem in one message
├── DeclarationError   a service declares a tool, probe or handle kind the kit cannot serve
└── RegistryError      Consul did not do what was asked
ToolError              (the SDK's) a failure a tool foresaw; its text goes to the caller as it is
```
"""

from mcp.server.mcpserver.exceptions import ToolError

__all__ = ["DeclarationError", "KitError", "RegistryError", "SettingsError", "ToolError"]


class KitError(Exception):
    """Base of everything the kit raises itself."""


class SettingsError(KitError):
    """The settings do not allow a start.

    Args:
        service: Which service was to be started.
        problems: One sentence for each problem, all of them.
    """

    def __init__(self, service: str, problems: tuple[str, ...]) -> None:
        self.problems = problems
        lines = "".join(f"\n  - {problem}" for problem in problems)
        super().__init__(f"{service} was not started, its settings have {len(problems)} problem(s):{lines}")


class DeclarationError(KitError):
    """A service's own declaration is wrong: a mistake in its source, found before it serves."""


class RegistryError(KitError):
    """Consul could not be reached, or refused."""
