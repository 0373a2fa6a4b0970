// What Express alone costs.
import { serveExpress } from './express-app.ts';

serveExpress([]);
