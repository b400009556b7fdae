"""What a skill is trained to do: the positions of each step, by the way in which the model is used."""
