"""Training and evaluation data: folders of clips (`video_folder`), motion series (`keypoint_store`), windows."""
