"""The list of what is in an image."""

from __future__ import annotations

import json

import pytest

from compose.images.sbom import Package, sbom

ZLIB = Package("Debian:12", "zlib", "1:1.2.13.dfsg-1", "zlib1g")
SPAM = Package("PyPI", "Spam_Eggs", "1.0", "Spam_Eggs")


@pytest.mark.parametrize(
    ("package", "purl"),
    [
        (ZLIB, "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?distro=debian-12"),
        (SPAM, "pkg:pypi/spam-eggs@1.0"),
        (Package("npm", "@types/node", "1.0", "@types/node"), "pkg:npm/%40types/node@1.0"),
        (Package("Go", "stdlib", "1.26.6", "stdlib"), "pkg:golang/stdlib@1.26.6"),
        (Package("Debian:12", "c++", "1+b1", "c++"), "pkg:deb/debian/c%2B%2B@1%2Bb1?distro=debian-12"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_package_has_its_url(package: Package, purl: str) -> None:
    assert package.purl == purl


def test_the_list_is_the_same_whatever_the_order_and_names_image_and_sources() -> None:
    once = sbom("tekup/mcp-hub:1.0", "sha256:ab", [ZLIB, SPAM, ZLIB])
    assert once == sbom("tekup/mcp-hub:1.0", "sha256:ab", [SPAM, ZLIB])
    told = json.loads(once)
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    assert told["metadata"]["component"]["name"] == "tekup/mcp-hub"
    assert told["metadata"]["component"]["version"] == "1.0@sha256:ab"
    assert [each["name"] for each in told["components"]] == ["zlib1g", "Spam_Eggs"]
    assert told["components"][0]["properties"] == [{"name": "tekup:source", "value": "zlib"}]
    assert told["serialNumber"].startswith("urn:uuid:")


def test_a_registry_s_port_is_no_tag() -> None:
    told = json.loads(sbom("registry:5000/hub", "", [SPAM]))
    assert told["metadata"]["component"] == {
        "bom-ref": "registry:5000/hub", "type": "container", "name": "registry:5000/hub", "version": "",
    }  # fmt: skip
