"""Hold the doors to DynamoDB and SQS to the same promises on every server."""
