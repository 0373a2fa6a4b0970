import { z } from 'zod';

/** What requests are counted by. */
export const axis = z
  .string()
  .max(128)
  .regex(
    /^(consumer|tenant|clientIP|route|method|global|header:[a-z0-9-]{1,64}|descriptor:[A-Za-z0-9_.-]{1,64}|attribute:[A-Za-z0-9_.-]{1,64})$/,
  );

/** Whether something is enforced, or only judged and reported. */
export const mode = z.enum(['Enforce', 'Shadow']);
