"""Clients of Amazon SQS, DynamoDB and CloudWatch, and everything that calls them."""
