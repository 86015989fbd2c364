"""The reference application: a labelling platform and the training of a small model, watched by beamstalk."""
