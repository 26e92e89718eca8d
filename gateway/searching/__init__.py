"""Documents are divided into passages, and passages, records and answers are found again by what they say."""
