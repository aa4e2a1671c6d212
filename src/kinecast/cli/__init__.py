"""The command line. One thin file per subcommand; `main(argv)` returns the exit code.

Exit codes: 0 success, 1 the input could not be used (one line on stderr says why), 2 usage error, 130 interrupted, 143
terminated (128 + SIGTERM; 129 for SIGHUP).
"""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, TextIO

import typer

from kinecast import __version__
from kinecast.apps.call import LOADING
from kinecast.cli.animate import animate
from kinecast.cli.anomaly import add_anomaly
from kinecast.cli.benchmark import benchmark
from kinecast.cli.call import call
from kinecast.cli.camera import camera
from kinecast.cli.data_check import data_check
from kinecast.cli.decode import decode
from kinecast.cli.demo import demo
from kinecast.cli.doctor import doctor
from kinecast.cli.encode import encode
from kinecast.cli.extract import extract
from kinecast.cli.forecast import forecast
from kinecast.cli.outputs import guarded
from kinecast.cli.research import add_research
from kinecast.cli.serve import serve
from kinecast.cli.studio import studio
from kinecast.cli.train_backbone import train_backbone
from kinecast.cli.train_forecaster import train_forecaster
from kinecast.cli.zoo_import import zoo_import
from kinecast.cli.zoo_list import zoo_list
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files.pipes import as_given
from kinecast.packages import explained

_INTERRUPTED = 130  # the shell's convention: 128 + SIGINT
_UsageError: Any = typer.BadParameter.__bases__[0]  # click's, of which newer typers keep a copy of their own
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
app = typer.Typer(
    help="Animate faces and other subjects with motion of a few kilobits per second.",
    no_args_is_help=True,
    add_completion=False,
    context_settings=_SETTINGS,
)
_train = typer.Typer(help="Train models on your own clips or motion.", no_args_is_help=True)
_data = typer.Typer(help="Check data sets.", no_args_is_help=True)
_zoo = typer.Typer(help="List bundled weights and import published ones.", no_args_is_help=True)
for command in (demo, extract, forecast, animate, encode, decode, benchmark, call, serve, studio, camera, doctor):
    app.command()(guarded(command))
add_anomaly(app)
_train.command("backbone")(guarded(train_backbone))
_train.command("forecaster")(guarded(train_forecaster))
_data.command("check")(guarded(data_check))
_zoo.command("list")(guarded(zoo_list))
_zoo.command("import")(guarded(zoo_import))
app.add_typer(_train, name="train")
app.add_typer(_data, name="data")
app.add_typer(_zoo, name="zoo")
add_research(app, _data)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"kinecast {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user error is one line on stderr, never a traceback."""
    shown = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        result: Any = typer.main.get_command(app).main(args=argv, prog_name="kinecast", standalone_mode=False)
        if result == _INTERRUPTED:  # typer turns Ctrl-C into this result
            raise KeyboardInterrupt
        return result if isinstance(result, int) else 0
    except KinecastError as error:
        return _fail(error)
    except ModuleNotFoundError as error:  # of an extra; commands that always need one have checked already
        return _fail(explained(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}: check the path, its permissions and the free disk space")
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; no partial files remain")
        return _INTERRUPTED
    except _UsageError as error:
        error.show()
        return int(error.exit_code)
    finally:
        warnings.showwarning = shown


class _Ended(SystemExit):
    """A signal that ends the process, raised as an exception so that partial output is removed."""

    code: int


def _end(number: int, frame: object) -> None:
    raise _Ended(128 + number)


def console() -> None:
    """Run from the shell."""
    for name in ("SIGTERM", "SIGHUP"):  # `timeout`, a stopping service, a closed terminal
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores it
            signal.signal(number, _end)
    try:
        code = main()
    except _Ended as ended:
        code = ended.code
    if any(thread.name == LOADING for thread in threading.enumerate()):
        # A call ended while its model loads: a thread still inside torch aborts the interpreter's exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _fail(error: object) -> int:
    print(f"kinecast: {as_given(str(error))}", file=sys.stderr)
    return 1


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, KinecastWarning):
        print(f"kinecast: warning: {as_given(str(message))}", file=sys.stderr)
