"""The names of engines and precisions, and their supported combinations."""

from kinecast.errors import KinecastError

ENGINES = ("auto", "eager", "fast", "openvino")
PRECISIONS = ("exact", "bf16", "int8")
SUPPORTED = {"eager": ("exact",), "fast": ("exact", "bf16"), "openvino": PRECISIONS}


def check(engine: str, precision: str) -> None:
    """Check that an engine supports a precision.

    Raises:
        KinecastError: it does not.
    """
    for what, value, known in (("engine", engine, ENGINES), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise KinecastError(f"{what}: expected one of {', '.join(known)}, found {value!r}")
    if engine != "auto" and precision not in SUPPORTED[engine]:
        able = ", ".join(name for name, precisions in SUPPORTED.items() if precision in precisions)
        raise KinecastError(
            f"engine {engine}: expected precision {' or '.join(SUPPORTED[engine])}, found {precision}: "
            f"use engine {able} or auto"
        )
