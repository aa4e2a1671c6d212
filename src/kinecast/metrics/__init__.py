"""What a prediction is measured by. Nothing here knows of backbones or forecasters: numbers in, numbers out."""
