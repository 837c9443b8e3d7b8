/**
 * Before every unit test file. An array for which a property gives a maximal length gets up to that many elements: by
 * itself fast-check draws about ten, whatever maximum is given, and a stream of ten bytes is hardly ever cut. Shrinking
 * such a case ends before the test's own time limit, so that it is shown.
 */
import fc from 'fast-check';

const SHRINK_MS_MAX = 20_000;

fc.configureGlobal({
  ...fc.readConfigureGlobal(),
  defaultSizeToMaxWhenMaxSpecified: true,
  interruptAfterTimeLimit: SHRINK_MS_MAX,
  markInterruptAsFailure: true,
});
