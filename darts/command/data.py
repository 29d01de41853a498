"""The command `darts data`: what a data set holds, before a search spends time on it."""

from __future__ import annotations

from darts.command.base import Call, Command
from darts.run.errors import UserError


class DataCommand(Command):
    """Counts the images of a data set and draws some of every class."""

    name, place = "data", 40
    help = "what a data set holds: counts, sizes, files left out, a picture of every class"
    usage = """usage: darts data dataset=NAME [dataset.root=FOLDER] [key=value ...]

  darts data dataset=image_folder dataset.root=PHOTOS                      your own images
  darts data dataset=image_folder dataset.root=PHOTOS data.resolution=16   as a search by default sees them
"""

    def run(self, call: Call) -> int:
        from darts.report.data_report import data_lines, draw_classes, series_lines
        from darts.report.text import print_lines
        from darts.run.files import write_text
        from darts.run.folder import check_own, chosen_run_dir, make_figures_dir, write_config
        from darts.run.parts import build_one
        from darts.tasks.datasets.base import smaller

        settings = call.settings
        dataset = build_one(settings, "dataset", settings["plugins"])
        if dataset.gives == "series":
            print_lines(series_lines(dataset.name, dataset.load(SPLIT)))
            return 0
        try:
            dataset = smaller(dataset, settings["data"]["resolution"])
        except ValueError as error:
            raise UserError(f"data.{error}") from None
        folder = chosen_run_dir(settings["run_dir"], self.name)
        check_own(folder, self.name, CONFIG_KEYS)
        parts = {"train": dataset.load_train(), "val": dataset.load_valid()}
        found = {name: images for name, images in parts.items() if images is not None}
        make_figures_dir(folder)
        write_config(settings, folder)
        remarks = [text for images in found.values() for text in (*images.left_out, *images.notes)]
        if remarks:
            write_text(folder / "data.txt", "\n".join(remarks) + "\n")
        draw_classes(found, folder / "figures" / "classes.png")
        print_lines(data_lines(dataset.name, found, folder))
        return 0


CONFIG_KEYS = ("dataset", "data")
SPLIT = 0.5  # of series, as searches split them by default
