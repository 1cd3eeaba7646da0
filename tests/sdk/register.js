// One device with the SDK as it is published, used as its samples use it. What to do is read from standard input, as
// JSON; what came of it is one line of JSON.
'use strict';

const { readFileSync } = require('node:fs');
const { promisify } = require('node:util');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Http } = require('azure-iot-provisioning-device-http');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { TpmSecurityClient } = require('azure-iot-security-tpm');
const { X509Security } = require('azure-iot-security-x509');

const task = JSON.parse(readFileSync(0, 'utf8'));

function securityClient() {
  if (task.symmetricKey) {
    return new SymmetricKeySecurityClient(task.registrationId, task.symmetricKey);
  }
  if (task.cert) {
    return new X509Security(task.registrationId, { cert: task.cert, key: task.key });
  }
  return new TpmSecurityClient(task.registrationId);
}

async function tpmIdentity(tpm) {
  const endorsementKey = await promisify(tpm.getEndorsementKey.bind(tpm))();
  const storageRootKey = await promisify(tpm.getStorageRootKey.bind(tpm))();
  return {
    registrationId: await promisify(tpm.getRegistrationId.bind(tpm))(),
    endorsementKey: endorsementKey.toString('base64'),
    storageRootKey: storageRootKey.toString('base64'),
  };
}

async function registration(security) {
  const client = ProvisioningDeviceClient.create(task.host, task.idScope, new Http(), security);
  if (task.payload !== undefined) {
    client.setProvisioningPayload(task.payload);
  }
  const result = await client.register();
  // The TPM client hands over the whole answer, the others its registrationState.
  const told = { state: result.registrationState || result };
  if (task.sign) {
    const sign = promisify(security.signWithIdentity.bind(security));
    told.signature = (await sign(Buffer.from(task.sign))).toString('base64');
  }
  return told;
}

function failure(error) {
  return {
    error: error.name,
    message: error.message,
    statusCode: error.response && error.response.statusCode,
    retryAfter: error.response && error.response.headers['retry-after'],
    body: error.responseBody ? JSON.parse(error.responseBody) : error.result,
  };
}

async function main() {
  const security = securityClient();
  return task.readTpm ? tpmIdentity(security) : registration(security).catch(failure);
}

main().then((told) => {
  console.log(JSON.stringify(told));
  process.exit(0); // the TPM client keeps its connection open
});
