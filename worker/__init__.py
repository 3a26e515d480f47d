"""Keep acceptances of an Acceptable Use Policy: from SQS into DynamoDB, once each."""

__version__ = "0.2.0"
