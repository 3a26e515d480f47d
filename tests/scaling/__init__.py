"""The scaling policy tried on a model of the service: figures, and the chart of them."""
