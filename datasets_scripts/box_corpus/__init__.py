"""The training data of the model in the box: what is known of clips, what both ears are sure of, and its wordings."""
