// The figures of the traffic, as cards and as columns. Without metrics there are none.

export const COLUMNS = [];
export const perModel = () => ({});
export const cells = () => [];
export const cards = () => [];
