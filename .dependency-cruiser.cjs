// Layering: imports point one way, and each outside library is touched by the one folder that owns it.
const only = (name, library, folders) => ({
  name,
  comment: `only ${folders} may import ${library}`,
  severity: 'error',
  from: { path: '^src/', pathNot: folders },
  to: { path: library, dependencyTypesNot: ['type-only'] },
});
module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'no-orphans', severity: 'error', from: { orphan: true, pathNot: '(index|\\.d)\\.ts$' }, to: {} },
    {
      name: 'not-declared',
      severity: 'error',
      from: {},
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown', 'unknown'], dependencyTypesNot: ['npm-peer'] },
    },
    only('mongo-in-store', '^(node_modules/)?(mongoose|mongodb)($|/)', '^src/(store|queue|embedded)/'),
    only('agenda-in-queue', '^(node_modules/)?(agenda|@agendajs/mongo-backend)($|/)', '^src/queue/'),
    only('express-in-http', '^(node_modules/)?express($|/)', '^src/(http|dashboard)/'),
    {
      name: 'core-is-pure',
      comment: 'decisions import nothing but each other, luxon and croner',
      severity: 'error',
      from: { path: '^src/core/' },
      to: { pathNot: '^(src/core/|(node_modules/)?(luxon|croner|@types/luxon)($|/))' },
    },
    {
      name: 'workers-below-scheduler',
      comment: 'core, store, queue, delivery, services and jobs never import what is above them',
      severity: 'error',
      from: { path: '^src/(core|store|queue|delivery|services|jobs|messengers)/' },
      to: {
        path: '^src/(scheduler|scheduler-parts|campaign-scheduler|campaigns|index)\\.ts$|^src/(http|cli|dashboard|embedded|testing)/',
      },
    },
    {
      name: 'store-is-low',
      severity: 'error',
      from: { path: '^src/(store|queue)/' },
      to: { path: '^src/(delivery|services|jobs)/' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
