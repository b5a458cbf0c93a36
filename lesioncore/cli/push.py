"""``lesioncore push``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from lesioncore.cli.output import CommandError, Outcome, Output, UsageError
from lesioncore.prior_names import CARD


@dataclass(frozen=True)
class Push:
    """Upload a model to the Hugging Face hub, with a card of its contrast, grid, calibration and licence.

    The token is that of `hf auth login` or HF_TOKEN. What a model's files say of its training goes with them:
    --dry-run shows what would be uploaded.

    Parameters
    ----------
    model : str
        Name of an embedded prior, or a model's directory.
    repository : str
        hf://owner/name.
    license : str, optional
        The hub's name of the licence of the weights, such as cc-by-4.0; the one that the model's card states when
        absent. A model of the IXI data set keeps cc-by-sa-3.0.
    datasets : tuple of str
        The hub's names of the data sets that the model learned from.
    create : bool
        Make the repository, or the branch, if it does not exist.
    private : bool
        With --create: for the owner alone.
    branch : str, optional
        Branch to commit to; main when absent.
    overwrite : bool
        Replace files of the same names; their earlier versions stay in the repository's history.
    message : str, optional
        Of the commit.
    dry_run : bool
        List what would be uploaded and show the card; the hub is not asked.
    json : bool
        Print one JSON object on stdout.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    repository: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="REPOSITORY")]
    license: Annotated[str | None, tyro.conf.arg(metavar="LICENSE", help_behavior_hint="")] = None
    datasets: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID [ID ...]", help_behavior_hint="")] = ()
    create: bool = False
    private: bool = False
    branch: Annotated[str | None, tyro.conf.arg(metavar="BRANCH", help_behavior_hint="")] = None
    overwrite: bool = False
    message: Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")] = None
    dry_run: bool = False
    json: bool = False

    def run(self, output: Output) -> Outcome:
        """Check, then list or upload."""
        if self.private and not self.create:
            raise UsageError("--private: is for a repository that is made; give --create, or change it on the hub")
        from lesioncore.models.publish import prepare_upload, upload

        ready = prepare_upload(self.model, self.repository, license=self.license, datasets=self.datasets)
        if ready.local_paths:
            output.warn(
                f"{self.model}: its files name paths of this machine, such as {ready.local_paths[0]}, and are uploaded"
                " as they are"
            )
        facts = {
            "repository": ready.place.repository,
            "license": ready.license,
            "files": ready.sizes,
            "local_paths": ready.local_paths,
        }
        for name, size in ready.sizes.items():
            output.say(f"{name:<20}{size:>12,} bytes")
        if self.dry_run:
            card = ready.files[CARD]
            assert isinstance(card, bytes)
            output.say(f"\n{card.decode()}\nnothing was uploaded")
            return Outcome({**facts, "name": None})
        try:
            name = upload(
                ready,
                branch=self.branch,
                create=self.create,
                private=self.private,
                overwrite=self.overwrite,
                message=self.message,
            )
        except RuntimeError as error:
            raise CommandError(str(error).removeprefix("name: ")) from error
        output.say(f"uploaded as {name}, which --prior and load_prior take")
        return Outcome({**facts, "name": name})
