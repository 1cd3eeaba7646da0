// A back end with the management SDK as it is published. A list of calls is read from standard input, as JSON; what came
// of each is one member of a list on standard output.
'use strict';

const { readFileSync } = require('node:fs');
const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');

const task = JSON.parse(readFileSync(0, 'utf8'));
const inAnHour = Date.now() + 3600 * 1000;
const client = task.token
  ? ProvisioningServiceClient.fromTokenCredential(task.host, {
      getToken: async () => ({ token: task.token, expiresOnTimestamp: inAnHour }),
    })
  : ProvisioningServiceClient.fromConnectionString(task.connectionString);

function settled(resolve) {
  // The callback form throughout: the promise of one call is never kept.
  return (error, result) => resolve(error ? failure(error) : { result: result === undefined ? null : result });
}

function failure(error) {
  return {
    error: error.name,
    statusCode: error.response && error.response.statusCode,
    body: error.responseBody ? JSON.parse(error.responseBody) : undefined,
  };
}

async function pages(query) {
  const found = [];
  do {
    const page = await new Promise((resolve) => query.next(settled(resolve)));
    if (page.error) {
      return page;
    }
    found.push(page.result);
  } while (query.hasMoreResults);
  return { result: found };
}

function done([call, ...given]) {
  return call.endsWith('Query')
    ? pages(client[call](...given))
    : new Promise((resolve) => client[call](...given, settled(resolve)));
}

async function main() {
  const told = [];
  for (const call of task.calls) {
    told.push(await done(call));
  }
  return told;
}

main().then((told) => console.log(JSON.stringify(told)));
