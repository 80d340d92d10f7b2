"""Collections of music: described, tagged, searched, shown. All of it works on descriptions and needs no torch."""
