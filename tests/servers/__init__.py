"""Local servers for tests: moto, DynamoDB Local, ministack and fauxqs."""
