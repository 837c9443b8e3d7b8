// Someone who looks: scrapes /metrics, reads /api/status and the page's events, as fast as asked; prints how often.
//   node reader.mjs PORT REQUESTS_PER_SECOND
import { get } from 'node:http';

const [port, perSecond] = process.argv.slice(2).map(Number);
const PATHS = ['/metrics', '/api/status', '/', '/api/flows'];
let answers = 0;
let next = 0;

function read(path) {
  return new Promise((resolve) => {
    get({ host: '127.0.0.1', port, path }, (response) => {
      response.resume().once('end', () => {
        answers += 1;
        resolve();
      });
    }).once('error', resolve);
  });
}

get({ host: '127.0.0.1', port, path: '/api/events' }, (response) => response.resume());
setInterval(() => {
  read(PATHS[next % PATHS.length]);
  next += 1;
}, 1000 / perSecond);
console.log('ready');
process.stdin.on('data', () => console.log(answers));
process.stdin.on('end', () => process.exit(0));
