"""Contract tests: the same behaviour on every DynamoDB and SQS server."""
