// Puts the sanitized build of an addon in the place of the ordinary one.
const { basename, join } = require('node:path');
const Module = require('node:module');

const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, ...rest) {
  const isOurs = /\/colo_\w+\.node$/.test(request);
  return resolve.call(
    this,
    isOurs ? join(process.env.COLO_TEST_ADDONS, basename(request)) : request,
    ...rest,
  );
};
