"""From a dataset's configured curation to the policy that its store follows."""

from pathlib import Path

from episodes.policies import Corrections, CuratedList, Policy
from fewshot.config import CorrectionsConfig, DataConfig
from fewshot.parsing import ConfigError, load_config


def policy_of(config: DataConfig, name: str) -> Policy:
    """The policy of a configured dataset, its files read.

    Raises:
        UserError: if a file cannot be read, or the corrections are of another dataset.
    """
    dataset = config.datasets[name]
    curation = dataset.curation
    corrections = curated = None
    if curation.corrections is not None:
        corrections = read_corrections(config.data_root / curation.corrections, (name, dataset.reader))
    if curation.curated is not None:
        curated = CuratedList.read(config.data_root / curation.curated)
    return Policy(curation.duplicates, curation.doppler, curated, corrections)


def read_corrections(path: Path, names: tuple[str, ...]) -> Corrections:
    """Read a YAML file of corrections.

    Args:
        path: the file.
        names: of the dataset at hand, of which the file must give one.

    Raises:
        ConfigError: if the file cannot be read, is not as `CorrectionsConfig` says, or is for another dataset.
    """
    found = load_config(path, CorrectionsConfig)
    if found.dataset not in names:
        raise ConfigError(
            f"{path}: is for the dataset {found.dataset}, and this one is {names[0]}; give the corrections of this one"
        )
    return found.corrections(str(path))
