"""The figures of an animation as a table."""

from rich.console import Console
from rich.table import Table

from kinecast.pipeline import PLAIN_VIDEO_KBPS, Report


def print_report(title: str, report: Report) -> None:
    """Print quality, rates and times of one animation on stdout."""
    sent = f"{report.frames_sent} of {report.frames} frames sent, {report.motion_dim} numbers each, {report.fps:g} fps"
    if report.forecaster:
        sent += f"; {report.horizon} forecast by {report.forecaster}"
    console = Console()
    console.print(f"[bold]{title}[/bold] ({report.mode}): {sent}", highlight=False)
    if report.quality:
        table = Table("frames", "MAE", "SSIM", title=f"against {report.truth}", title_justify="left")
        for name, values in report.quality.items():
            table.add_row(name, f"{values['mae']:.4f}", f"{values['ssim']:.3f}")
        console.print(table)
    rate = report.rate
    table = Table("rate", "kbps", f"saving vs {PLAIN_VIDEO_KBPS:g} kbps")
    table.add_row("published accounting", f"{rate['published_kbps']:.2f}", f"{rate['saving_published']:.1f} x")
    table.add_row("motion as sent (float32)", f"{rate['sent_kbps']:.2f}", f"{rate['saving_sent']:.1f} x")
    table.add_row("with the source picture (JPEG)", f"{rate['sent_kbps_with_picture']:.2f}", "")
    console.print(table)
    times = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in report.seconds.items())
    console.print(f"seconds: {times}", highlight=False)
