"""The undisturbed commands, run once for all tests of this folder."""

import pytest

from tests.survival.pipeline import Stage, stages


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    return stages(tmp_path_factory.mktemp("undisturbed"))
