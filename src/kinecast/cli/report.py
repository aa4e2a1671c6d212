"""The figures of an animation as a table."""

from kinecast.apps.pipeline import PLAIN_VIDEO_KBPS, Report
from kinecast.cli.terminal import plain_console, show


def print_report(title: str, report: Report) -> None:
    """Print quality, rates and times of one animation on stdout."""
    sent = f"{report.frames_sent} of {report.frames} frames sent, {report.motion_dim} numbers each, {report.fps:g} fps"
    if report.frames_without_face:
        sent += f"; no face in {report.frames_without_face} frames, which hold the last picture"
    if report.forecaster:
        sent += f"; {report.horizon} forecast by {report.forecaster}"
    console = plain_console()
    console.print(title, style="bold", end="")
    console.print(f" ({report.mode}): {sent}")
    if report.quality:
        rows = [(name, f"{values['mae']:.4f}", f"{values['ssim']:.3f}") for name, values in report.quality.items()]
        show(f"against {report.truth}", ("frames", "MAE", "SSIM"), rows, console)
    rate = report.rate
    rows = [
        ("published accounting", f"{rate['published_kbps']:.2f}", f"{rate['saving_published']:.1f} x"),
        ("motion as sent (float32)", f"{rate['sent_kbps']:.2f}", f"{rate['saving_sent']:.1f} x"),
        ("with the source picture (JPEG)", f"{rate['sent_kbps_with_picture']:.2f}", ""),
    ]
    show(None, ("rate", "kbps", f"saving vs {PLAIN_VIDEO_KBPS:g} kbps"), rows, console)
    times = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in report.seconds.items())
    console.print(f"seconds: {times}")
