"""constraints.txt, which pins every version that the requirements and the tests bring along."""

import re
from importlib.metadata import requires

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tutorial import ROOT

LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = [Requirement(line) for line in LINES]
PLATFORMS = {
    "Linux": {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"},
    "macOS": {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64", "os_name": "posix"},
    "Windows": {"sys_platform": "win32", "platform_system": "Windows", "platform_machine": "AMD64", "os_name": "nt"},
}


def required(path):
    """The requirements in a file, and in those that it names with -r."""
    for line in path.read_text().splitlines():
        if line.startswith("-r "):
            yield from required(path.parent / line.removeprefix("-r "))
        elif line and not line.startswith(("#", "-c ")):
            yield Requirement(line)


def pinned(environment):
    """The versions for an environment, {name: [version]}."""
    versions = {}
    for pin in PINS:
        if not pin.marker or pin.marker.evaluate(environment):
            (version,) = pin.specifier
            versions.setdefault(canonicalize_name(pin.name), []).append(version.version)
    return versions


def test_each_line_is_one_version_and_no_address():
    assert len(LINES) > 150
    for line in LINES:
        assert re.fullmatch(r"[a-z0-9-]+==[a-z0-9.]+( ; [^;@/]+)?", line), line


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_each_requirement_has_one_version_everywhere(platform, python):
    environment = default_environment() | PLATFORMS[platform] | {
        "python_version": python, "python_full_version": f"{python}.9"}
    versions = pinned(environment)
    assert all(len(of_one) == 1 for of_one in versions.values())
    for requirement in required(ROOT / "tests/requirements.txt"):
        if not requirement.marker or requirement.marker.evaluate(environment):
            (version,) = versions[canonicalize_name(requirement.name)]
            assert version in requirement.specifier, requirement


def test_all_that_these_bring_along_here_is_pinned():
    versions, seen = pinned(default_environment()), set()
    to_do = [(requirement, "") for requirement in required(ROOT / "tests/requirements.txt")]
    while to_do:
        requirement, extra = to_do.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        assert name in versions, f"{name} isn't pinned: run make constraints"
        assert versions[name][0] in requirement.specifier, f"{requirement} isn't fulfilled: run make constraints"
        for wanted in {"", *requirement.extras} - {extra for other, extra in seen if other == name}:
            seen.add((name, wanted))
            to_do += [(Requirement(text), wanted) for text in requires(name) or ()]
    assert len(seen) > 150
