"""Guards of the rate on a stranger's key points; benchmarks/motion_rate.py measures it."""

import numpy as np
import pytest

from kinecast.codec import FILE, Layout, encode_levels, generic_profile, load_profile, quantize
from kinecast.data.keypoint_store import load_series

CLIP = "id10291_4aLg_keiGHw_001217_001424"  # 207 frames of a person that no table has seen


@pytest.mark.parametrize(
    ("value", "jacobian", "profile", "most"),
    [
        (1 / 256, 1 / 64, "fomm-vox256", 3.63),
        (1 / 128, 1 / 32, "fomm-vox256", 2.61),
        (1 / 256, 1 / 64, "generic", 4.6),
    ],
)
def test_motion_of_a_stranger(data_folder, value, jacobian, profile, most):
    vectors = load_series(data_folder / "voxceleb" / "keypoints_fomm_vox256.npz")[CLIP].numpy()
    layout = Layout.fomm(value=value, jacobian=jacobian)
    tables = generic_profile(layout) if profile == "generic" else load_profile(profile, layout)
    packets = encode_levels(quantize(np.asarray(vectors), layout), layout, tables, FILE)
    kbps = 8 * sum(len(packet.payload) for packet in packets) * 30 / len(vectors) / 1000
    assert kbps < most
