"""Questions and passages to the places that answer: a card on the encoder that is loaded anyway."""
