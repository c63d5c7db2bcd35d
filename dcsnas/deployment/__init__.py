"""A trained network in use: features of images, same or different person, export."""
