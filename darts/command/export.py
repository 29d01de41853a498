"""The command `darts export`: a trained network as a file for other programs."""

from __future__ import annotations

from pathlib import Path

from darts.command.base import Call, Command
from darts.run.errors import UserError


class ExportCommand(Command):
    """Writes the network of a retraining, or the cell of a search with the supernet's weights."""

    name, place = "export", 22
    help = "write a trained network as ONNX, a torch program or safetensors, checked on the spot"
    usage = """usage: darts export run=RUN_DIR [format=onnx] [output=FILE] [key=value ...]

  darts export run=outputs/retrain/DATE/TIME                       to its exports/model.onnx
  darts export run=outputs/retrain/DATE/TIME quantize=true         and exports/model.int8.onnx
  darts export run=outputs/search/DATE/TIME format=safetensors     a cell with its supernet's weights
"""

    def run(self, call: Call) -> int:
        from darts.models.exporting import export
        from darts.models.formats.base import format_of
        from darts.models.opening import open_model
        from darts.models.quantizing import check_quantizable, quantize
        from darts.report.export_report import export_lines, quantized_lines
        from darts.report.text import print_lines
        from darts.run.folder import check_links

        settings, plugins = call.settings, call.settings["plugins"]
        if settings["run"] is None:
            raise UserError(
                "run: darts export needs a trained network; give run=RUN_DIR of darts retrain or darts search"
            )
        form = format_of(settings["format"])
        form.check()
        if settings["quantize"] and form.name != "onnx":
            raise UserError(f"quantize: got true with format={form.name}; it is for format=onnx")
        folder = Path(settings["run"])
        if settings["output"] is None:
            check_links(folder, "run")
        model = open_model(folder, "run", settings["weights"], plugins)
        if settings["quantize"] and model.about.takes != "images":
            raise UserError(
                f"quantize: got true; it is for classifiers of images, and this network takes {model.about.takes}"
            )
        output = settings["output"]
        if output is None and not folder.is_dir():
            raise UserError(f"output: {folder} is a file, not the folder of a run; give output=FILE")
        path = folder / "exports" / f"model{form.suffix}" if output is None else Path(output)
        if settings["quantize"]:
            check_quantizable(folder, path, settings["overwrite"])
        written = export(model, form, path, settings["overwrite"], plugins)
        print_lines(export_lines(model.about, form.name, written))
        if settings["quantize"]:
            print_lines(quantized_lines(quantize(folder, written.path, settings["overwrite"], plugins)))
        return 0
