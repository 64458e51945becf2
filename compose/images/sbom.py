"""A list of what is in an image, as CycloneDX 1.6: the same for the same image, to the byte."""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

TYPES: Mapping[str, str] = {
    "Debian": "deb", "PyPI": "pypi", "npm": "npm", "Go": "golang", "crates.io": "cargo", "Maven": "maven",
    "RubyGems": "gem", "Packagist": "composer", "NuGet": "nuget",
}  # fmt: skip
"""Package URL types of OSV's ecosystems; others become `generic`."""
SPEC = "1.6"
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/bom")


@dataclass(frozen=True, order=True)
class Package:
    """One package that was found in an image."""

    ecosystem: str
    """OSV's name with its release, such as `Debian:12`."""
    name: str
    """As advisories call it; of Debian's, the source package."""
    version: str
    installed: str
    """As it is installed; of Debian's, the binary package."""

    @property
    def family(self) -> str:
        """The ecosystem without its release."""
        return self.ecosystem.partition(":")[0]

    @property
    def purl(self) -> str:
        """Its package URL."""
        kind = TYPES.get(self.family, "generic")
        name = quote(self.installed.lower().replace("_", "-") if kind == "pypi" else self.installed, safe="/")
        release = self.ecosystem.partition(":")[2]
        where, distro = ("debian/", f"?distro=debian-{release}" if release else "") if kind == "deb" else ("", "")
        return f"pkg:{kind}/{where}{name}@{quote(self.version, safe=':')}{distro}"


def sbom(image: str, digest: str, packages: Iterable[Package]) -> str:
    """The document.

    Args:
        image: The image's name with its tag.
        digest: The image's id, `sha256:…`; empty where it is not known.
        packages: What is in it.

    Returns:
        JSON, with a line feed at its end.
    """
    components = {package.purl: _component(package) for package in sorted(packages)}
    name, _, tag = image.rpartition(":") if ":" in image.rpartition("/")[2] else (image, "", "")
    subject = {"bom-ref": image, "type": "container", "name": name, "version": tag}
    if digest:
        subject["version"] = f"{tag}@{digest}" if tag else digest
    document: dict[str, object] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": {"component": subject},
        "components": list(components.values()),
    }
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(NAMESPACE, json.dumps(document, sort_keys=True))}"
    return json.dumps(document, indent=1) + "\n"


def _component(package: Package) -> dict[str, object]:
    component: dict[str, object] = {
        "bom-ref": package.purl, "type": "library", "name": package.installed, "version": package.version,
        "purl": package.purl,
    }  # fmt: skip
    if package.name != package.installed:
        component["properties"] = [{"name": "tekup:source", "value": package.name}]
    return component
