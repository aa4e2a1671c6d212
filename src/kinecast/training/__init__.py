"""Training of backbones on folders of clips, and of forecasters on keypoint series."""
