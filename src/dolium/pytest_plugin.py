"""For pytest: the fixture `dolium_box`, a Sandbox of one test, and the mark that says which.

    @pytest.mark.dolium(image="@venv", memory="256M")      # whatever dolium.Sandbox takes; of a class or module, too
    def test_it(dolium_box):
        assert dolium_box.run(["python3", "-c", "print(1)"], text=True).stdout == "1\\n"

It is found by itself where Dolium is installed; else `pytest -p dolium.pytest_plugin`.  Where containers cannot run, a test that
asks for one is an error, and with --dolium-skip is skipped.  Until then nothing of Dolium is loaded but this.
"""

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from dolium.sandbox.box import Sandbox


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option."""
    parser.getgroup("dolium").addoption("--dolium-skip", action="store_true",
                                        help="skip tests whose container this host cannot run")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """The mark."""
    config.addinivalue_line("markers", "dolium(image='@host', **options): the Sandbox that `dolium_box` is; as dolium.Sandbox")


@pytest.fixture
def dolium_box(request: pytest.FixtureRequest) -> "Iterator[Sandbox]":
    """A fresh `dolium.Sandbox`, closed after the test; its arguments are those of the marks `dolium`, the nearest first."""
    import dolium

    options: dict[str, Any] = {}
    for mark in request.node.iter_markers("dolium"):
        if mark.args:
            raise dolium.UsageError("mark dolium: expected arguments by name", hint='@pytest.mark.dolium(image="@venv")')
        options = {**mark.kwargs, **options}
    try:
        box = dolium.Sandbox(**options)
    except (dolium.Unsupported, dolium.RegistryError, dolium.StepError, OSError) as error:
        hint = getattr(error, "hint", "")
        said = f"dolium_box: {error}" + (f"\nhint: {hint}" if hint else "")
        if request.config.getoption("dolium_skip"):
            pytest.skip(said)
        pytest.fail(said + "\n(--dolium-skip skips such tests)", pytrace=False)
    with box:
        yield box
