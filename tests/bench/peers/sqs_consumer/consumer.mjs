// sqs-consumer on Node: `node consumer.mjs put` writes each message, `node consumer.mjs batch` writes
// those of a receive with one hand-written BatchExecuteStatement.
import {
  BatchExecuteStatementCommand,
  ConditionalCheckFailedException,
  DynamoDBClient,
  PutItemCommand,
} from "@aws-sdk/client-dynamodb";
import { GetQueueUrlCommand, SQSClient } from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";

const TABLE = process.env.AUP_USER_TABLE ?? "aup-acceptances";
const QUEUE = process.env.AUP_QUEUE ?? "aup-acceptances";
const dynamodb = new DynamoDBClient();
const sqs = new SQSClient();

function itemOf(body) {
  const fields = JSON.parse(body);
  const item = {};
  for (const [name, value] of Object.entries(fields)) {
    if (typeof value === "string") item[name] = { S: value };
  }
  item.policy_version = { S: `${fields.policy_id}#${fields.version}` };
  item.recorded_at = { S: new Date().toISOString() };
  return item;
}

async function put(message) {
  try {
    await dynamodb.send(
      new PutItemCommand({
        TableName: TABLE,
        Item: itemOf(message.Body),
        ConditionExpression: "attribute_not_exists(user_id)",
      }),
    );
  } catch (error) {
    if (!(error instanceof ConditionalCheckFailedException)) throw error;
  }
}

async function putAll(messages) {
  await Promise.all(messages.map(put));
  return messages;
}

function statementOf(message) {
  const item = itemOf(message.Body);
  const names = Object.keys(item).map((name) => `'${name}': ?`);
  return {
    Statement: `INSERT INTO "${TABLE}" VALUE {${names.join(", ")}}`,
    Parameters: Object.values(item),
  };
}

async function writeBatch(messages) {
  const result = await dynamodb.send(
    new BatchExecuteStatementCommand({ Statements: messages.map(statementOf) }),
  );
  return messages.filter((_, number) => {
    const error = result.Responses[number].Error;
    return error === undefined || error.Code === "DuplicateItem";
  });
}

const { QueueUrl } = await sqs.send(new GetQueueUrlCommand({ QueueName: QUEUE }));
const app = Consumer.create({
  queueUrl: QueueUrl,
  sqs,
  batchSize: 10,
  handleMessageBatch: process.argv[2] === "batch" ? writeBatch : putAll,
});
app.on("error", (error) => console.error(error.message));
app.on("processing_error", (error) => console.error(error.message));
app.start();
